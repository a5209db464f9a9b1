package manifests

// flannelNetwork is the CNI network's name. It is ours alone, so that reset knows our conflist.
const flannelNetwork = "myadm-flannel"
