"""Limiters x rates x seeds on one data set, as one job that can be stopped and gone on with."""
