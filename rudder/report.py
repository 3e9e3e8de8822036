"""The report of runs, under the name of the package that steers them.

python -m rudder.report runs/a              the same as python -m minidist.report runs/a
"""


def main() -> None:
    """The command line of ``minidist.report``, which knows the folders of runs."""
    from minidist.report.__main__ import main as report

    report()


if __name__ == "__main__":
    main()
