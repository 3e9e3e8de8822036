"""Pages: what a run showed, as one HTML file that stands alone (see ``rudder.report``).

runlog: one rank's events   minibatches, runs: all ranks' and the folder   unfinished: no summary
buckets, numerals: many points, read by people   markup: HTML and SVG, escaped
frame, charts, strip, legend, bars: SVG that fits any width   page: what holds it all
overview, times, traffic, reasons, comparison, standings, ..: the parts
"""
