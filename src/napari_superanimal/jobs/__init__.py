"""One way to run, report, cancel and resume; used by the GUI and the command line alike."""
