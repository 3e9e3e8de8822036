"""The report of runs: one HTML page that needs no network, from the folders of the runs.

__main__     the command            numerals     figures as people read them
page         reads, draws, writes   run_folder   a run, from its summary and event logs
page.html.j2 words and layout       charts       drawings over minibatches and epochs
comparison   runs side by side      policies     replayed policies against Belady's bound
"""
