"""The toy encyclopedia: an offline model family that shows emulated fine-tuning at work.

World, sentences and exact judge are functions of one seed; the models ship with the package. It
demonstrates the mechanism and is no evidence about real models (docs/demo.md).
"""
