"""What the RegNet modules of 3D Slicer share. May import slicer, qt, ctk and vtk; never imports torch."""
