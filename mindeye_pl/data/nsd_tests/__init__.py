"""NSD's further sessions as test splits: NSD-synthetic, and NSD-imagery's seen and imagined images.

Sources: the NSD Data Manual (cvnlab.slite.page, "Functional data (nsdsynthetic)", "Functional data (nsdimagery)"),
Gifford et al. 2024 (NSD-synthetic, arXiv 2503.06286), Kneeland et al. 2025 (NSD-imagery, arXiv 2506.06898), and public
code that reads the files. No file of these datasets was at hand. Not verified: the axes of the hdf5 betas (both orders
are read, by their shapes), the square root between stored and displayed pixels of NSD-synthetic, the order of
NSD-imagery's betas within a run (`data.order_in_runs`), and the names in its pair lists.
"""
