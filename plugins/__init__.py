"""Plugins of this project for optional libraries. Entry points announce them, as for the plugins of other packages."""
