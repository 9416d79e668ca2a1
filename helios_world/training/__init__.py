"""Collecting data, training and exporting a world pack. Nothing at run time imports this."""
