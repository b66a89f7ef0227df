"""Shapes of models that people build on ncps.torch, in our own words: a row for each habit, with its author's use.

shape    what a row says, and how authors run their models
check    a row exported and compared with that use
sensors  time series: taggers, classifiers, forecasts
robots   policies, nodes, loops over cells, cameras
conventions  how any of them are called, and what they return
"""
