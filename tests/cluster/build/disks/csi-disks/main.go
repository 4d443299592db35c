// Command csi-disks is a CSI driver whose volumes and snapshots are folders of the machine.
//
// Without --node it serves the calls of the provisioner and the snapshotter; with it, those of a node's kubelet, to which
// it registers itself. Faults for tests come from a file, which is read at every call (faults.go).
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

type identity struct {
	csi.UnimplementedIdentityServer
	name string
}

func (i *identity) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: i.name, VendorVersion: "1"}, nil
}

func (i *identity) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}

func (i *identity) GetPluginCapabilities(
	context.Context, *csi.GetPluginCapabilitiesRequest,
) (*csi.GetPluginCapabilitiesResponse, error) {
	answer := &csi.GetPluginCapabilitiesResponse{}
	for _, kind := range []csi.PluginCapability_Service_Type{
		csi.PluginCapability_Service_CONTROLLER_SERVICE,
		csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS,
	} {
		service := &csi.PluginCapability_Service_{Service: &csi.PluginCapability_Service{Type: kind}}
		answer.Capabilities = append(answer.Capabilities, &csi.PluginCapability{Type: service})
	}
	return answer, nil
}

// registrar answers the kubelet, which finds its socket and asks which plugin it is for, also after it has restarted.
type registrar struct {
	registration.UnimplementedRegistrationServer
	name, socket string
}

func (r *registrar) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	return &registration.PluginInfo{
		Type: registration.CSIPlugin, Name: r.name, Endpoint: r.socket, SupportedVersions: []string{"1.0.0"},
	}, nil
}

func (r *registrar) NotifyRegistrationStatus(
	_ context.Context, status *registration.RegistrationStatus,
) (*registration.RegistrationStatusResponse, error) {
	if !status.PluginRegistered {
		log.Printf("the kubelet refuses the driver: %s", status.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func main() {
	name := flag.String("name", "", "of the driver")
	socket := flag.String("socket", "", "where it serves")
	data := flag.String("data", "", "the folder of volumes and snapshots")
	faultFile := flag.String("faults", "", "the file of injected faults")
	node := flag.String("node", "", "the node whose kubelet it serves; empty: it serves the sidecars")
	registrarSocket := flag.String("registrar", "", "the socket that the kubelet finds")
	flag.Parse()
	faults := &faults{file: *faultFile, busy: map[string]bool{}}
	server := grpc.NewServer(grpc.UnaryInterceptor(faults.intercept))
	csi.RegisterIdentityServer(server, &identity{name: *name})
	if *node == "" {
		csi.RegisterControllerServer(server, &controller{data: *data, topology: *name + "/node"})
	} else {
		csi.RegisterNodeServer(server, &nodeServer{data: *data, topology: *name + "/node", node: *node})
		kubelet := grpc.NewServer()
		registration.RegisterRegistrationServer(kubelet, &registrar{name: *name, socket: *socket})
		// The kubelet calls the driver as soon as it has found the registrar.
		go serve(kubelet, listen(*registrarSocket))
	}
	serve(server, listen(*socket))
}

func listen(socket string) net.Listener {
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		log.Fatal(err)
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	return listener
}

func serve(server *grpc.Server, listener net.Listener) {
	log.Fatal(server.Serve(listener))
}
