"""Training: the loop and its steps, optimizers, checkpoints and run folders.

`train.train` starts here, `trainer.Trainer.train_step` is one training step, and `loop.TrainingLoop` repeats it.
"""
