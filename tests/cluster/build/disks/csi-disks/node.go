package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// nodeServer mounts volumes for the pods of one node. Every node sees the same folders.
type nodeServer struct {
	csi.UnimplementedNodeServer
	data, topology, node string
}

func (n *nodeServer) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	here := &csi.Topology{Segments: map[string]string{n.topology: n.node}}
	return &csi.NodeGetInfoResponse{NodeId: n.node, AccessibleTopology: here}, nil
}

func (n *nodeServer) NodeGetCapabilities(
	context.Context, *csi.NodeGetCapabilitiesRequest,
) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func (n *nodeServer) NodePublishVolume(
	_ context.Context, asked *csi.NodePublishVolumeRequest,
) (*csi.NodePublishVolumeResponse, error) {
	files := filepath.Join(n.data, "volumes", filepath.Base(asked.VolumeId), "files")
	if _, err := os.Stat(files); err != nil {
		return nil, status.Errorf(codes.NotFound, "volume %s does not exist", asked.VolumeId)
	}
	if err := os.MkdirAll(asked.TargetPath, 0o750); err != nil {
		return nil, err
	}
	if !isMounted(asked.TargetPath) {
		if err := run("mount", "--bind", files, asked.TargetPath); err != nil {
			return nil, err
		}
	}
	flags := append([]string{"remount", "bind"}, asked.GetVolumeCapability().GetMount().GetMountFlags()...)
	if asked.Readonly {
		flags = append(flags, "ro")
	}
	return &csi.NodePublishVolumeResponse{}, run("mount", "-o", strings.Join(flags, ","), asked.TargetPath)
}

func (n *nodeServer) NodeUnpublishVolume(
	_ context.Context, asked *csi.NodeUnpublishVolumeRequest,
) (*csi.NodeUnpublishVolumeResponse, error) {
	for isMounted(asked.TargetPath) {
		if err := run("umount", asked.TargetPath); err != nil {
			return nil, err
		}
	}
	if err := os.Remove(asked.TargetPath); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

func isMounted(path string) bool {
	return exec.Command("mountpoint", "--quiet", path).Run() == nil
}

func run(command string, words ...string) error {
	if text, err := exec.Command(command, words...).CombinedOutput(); err != nil {
		return status.Errorf(codes.Internal, "%s: %s", command, text)
	}
	return nil
}
