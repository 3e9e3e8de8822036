set -x
cd $(dirname $0)
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site ../.whl/*.whl
cp -r ../.llama/llama_cpp /tmp/site/ 2>/dev/null
export PYTHONPATH=/tmp/site:$PWD PATH=/tmp/site/bin:$PATH PYTHONUNBUFFERED=1
nvidia-smi -L; nproc; python3 -c "import torch; print(torch.__version__)"
(time python3 -m minidist.partition --dataset synthetic:products --parts 1 --out /tmp/p1 > $OUT/partition.log 2>&1) 2> $OUT/partition.time &
timeout 60 python3 -m pytest -q -x tests/test_row_placement.py -p no:cacheprovider 2>&1 | tail -3
timeout 170 python3 -m pytest -q tests/test_cuda.py -n 6 -p no:cacheprovider > $OUT/cuda.log 2>&1; tail -25 $OUT/cuda.log
wait
for f in cuda pinned host; do timeout 100 python3 -m benchmarks.device --parts /tmp/p1 --steps 60 --features $f $([ $f = cuda ] || echo --no-evaluate) --json $OUT/device-$f.json 2>&1 | tail -14; done
for t in 6 10; do timeout 60 python3 -m benchmarks.device --parts /tmp/p1 --steps 60 --features cuda --sample-threads $t --no-evaluate 2>&1 | tail -11; done
timeout 60 python3 -m benchmarks.device --parts /tmp/p1 --steps 60 --features cuda --no-evaluate --deterministic 2>&1 | tail -11
timeout 60 python3 -m benchmarks.device --parts /tmp/p1 --steps 60 --features cuda --no-evaluate --amp bf16 2>&1 | tail -11
