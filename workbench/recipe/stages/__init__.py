"""The stages of the recipe, a file each, and what every stage declares (`stage.py`).

A new stage is a new file here, or in a package of your own, and a line in `settings.STAGE_MODULES` or $WORKBENCH_STAGES:
plans, sweeps, keys, panels, presets and the server learn of it from its declaration. Nothing here loads torch before it runs.
"""
