"""Reader and converter of MindEye1's NSD files."""
