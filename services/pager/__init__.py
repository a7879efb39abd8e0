"""The pager service: swap space, swap metadata, swap devices, and the pages of image files."""
