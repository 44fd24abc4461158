"""ViTGAN: the authors' code (kinds off_*), the re-implementation (re_*), and the paper's formulas (paper_*)."""
