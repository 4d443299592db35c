package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// controller keeps volumes in data/volumes/ID/files and snapshots in data/snapshots/ID/files. The id is the name that
// the sidecar gives, so that a repeated call finds what the first one made.
type controller struct {
	csi.UnimplementedControllerServer
	data, topology string
}

// facts are in the file `info` next to the files.
type facts struct {
	Bytes  int64     `json:"bytes"`
	Source string    `json:"source"`
	Node   string    `json:"node"`
	Made   time.Time `json:"made"`
}

func (c *controller) ControllerGetCapabilities(
	context.Context, *csi.ControllerGetCapabilitiesRequest,
) (*csi.ControllerGetCapabilitiesResponse, error) {
	answer := &csi.ControllerGetCapabilitiesResponse{}
	for _, kind := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
		csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
	} {
		rpc := &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: kind}}
		answer.Capabilities = append(answer.Capabilities, &csi.ControllerServiceCapability{Type: rpc})
	}
	return answer, nil
}

func (c *controller) CreateVolume(
	_ context.Context, asked *csi.CreateVolumeRequest,
) (*csi.CreateVolumeResponse, error) {
	source := ""
	if snapshot := asked.GetVolumeContentSource().GetSnapshot(); snapshot != nil {
		source = c.path("snapshots", snapshot.SnapshotId)
	} else if volume := asked.GetVolumeContentSource().GetVolume(); volume != nil {
		source = c.path("volumes", volume.VolumeId)
	}
	wanted := facts{Bytes: asked.GetCapacityRange().GetRequiredBytes()}
	if asked.Parameters["topology"] == "node" {
		preferred := asked.GetAccessibilityRequirements().GetPreferred()
		if len(preferred) == 0 {
			return nil, status.Error(codes.ResourceExhausted, "no node to make the volume on")
		}
		wanted.Node = preferred[0].Segments[c.topology]
	}
	found, err := c.make(c.path("volumes", asked.Name), source, wanted)
	if err != nil {
		return nil, err
	}
	volume := &csi.Volume{VolumeId: asked.Name, CapacityBytes: found.Bytes, ContentSource: asked.VolumeContentSource}
	if found.Node != "" {
		volume.AccessibleTopology = []*csi.Topology{{Segments: map[string]string{c.topology: found.Node}}}
	}
	return &csi.CreateVolumeResponse{Volume: volume}, nil
}

func (c *controller) DeleteVolume(
	_ context.Context, asked *csi.DeleteVolumeRequest,
) (*csi.DeleteVolumeResponse, error) {
	return &csi.DeleteVolumeResponse{}, os.RemoveAll(c.path("volumes", asked.VolumeId))
}

func (c *controller) CreateSnapshot(
	_ context.Context, asked *csi.CreateSnapshotRequest,
) (*csi.CreateSnapshotResponse, error) {
	volume := c.path("volumes", asked.SourceVolumeId)
	of, err := read(volume)
	if err != nil {
		return nil, err
	}
	of.Source = asked.SourceVolumeId
	found, err := c.make(c.path("snapshots", asked.Name), volume, of)
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: &csi.Snapshot{
		SnapshotId: asked.Name, SourceVolumeId: found.Source, SizeBytes: found.Bytes,
		CreationTime: timestamppb.New(found.Made), ReadyToUse: true,
	}}, nil
}

func (c *controller) DeleteSnapshot(
	_ context.Context, asked *csi.DeleteSnapshotRequest,
) (*csi.DeleteSnapshotResponse, error) {
	return &csi.DeleteSnapshotResponse{}, os.RemoveAll(c.path("snapshots", asked.SnapshotId))
}

func (c *controller) ValidateVolumeCapabilities(
	_ context.Context, asked *csi.ValidateVolumeCapabilitiesRequest,
) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	confirmed := &csi.ValidateVolumeCapabilitiesResponse_Confirmed{VolumeCapabilities: asked.VolumeCapabilities}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: confirmed}, nil
}

func (c *controller) path(kind, id string) string {
	return filepath.Join(c.data, kind, filepath.Base(id))
}

// make makes a volume or a snapshot, complete or not at all, and returns its facts; one that exists stays as it is.
func (c *controller) make(target, source string, wanted facts) (facts, error) {
	if found, err := read(target); err == nil {
		return found, nil
	}
	work := target + ".new"
	if err := os.RemoveAll(work); err != nil {
		return facts{}, err
	}
	if err := os.MkdirAll(filepath.Join(work, "files"), 0o755); err != nil {
		return facts{}, err
	}
	if source != "" {
		if _, err := read(source); err != nil {
			return facts{}, err
		}
		copied := exec.Command("cp", "--archive", "--reflink=auto", source+"/files/.", work+"/files")
		if text, err := copied.CombinedOutput(); err != nil {
			return facts{}, status.Errorf(codes.Internal, "cp: %s", text)
		}
	}
	wanted.Made = time.Now().UTC()
	text, err := json.Marshal(wanted)
	if err != nil {
		return facts{}, err
	}
	if err := os.WriteFile(filepath.Join(work, "info"), text, 0o644); err != nil {
		return facts{}, err
	}
	return wanted, os.Rename(work, target)
}

func read(folder string) (facts, error) {
	found := facts{}
	text, err := os.ReadFile(filepath.Join(folder, "info"))
	if err != nil {
		return found, status.Errorf(codes.NotFound, "%s does not exist", folder)
	}
	return found, json.Unmarshal(text, &found)
}
