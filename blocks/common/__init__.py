"""Parts that blocks of several families share: equalised layers, resampling, modulation, noise, positions, images.

No spec can name them; code imports them from their files.
"""
