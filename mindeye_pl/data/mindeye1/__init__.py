"""Reader and converter of MindEye1's files of NSD."""
