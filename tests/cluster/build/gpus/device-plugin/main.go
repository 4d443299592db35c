// Command device-plugin offers the GPUs that a file names to a kubelet, and hands them out as CDI devices.
//
// Each line of the file is the id of a GPU and "ok" or "failed". The file is read again when it changes, and the plugin
// registers again when the kubelet has restarted.
package main

import (
	"bytes"
	"context"
	"flag"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	api "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const pause = 200 * time.Millisecond

type plugin struct {
	api.UnimplementedDevicePluginServer
	file, kind string
}

func (p *plugin) GetDevicePluginOptions(context.Context, *api.Empty) (*api.DevicePluginOptions, error) {
	return &api.DevicePluginOptions{}, nil
}

func (p *plugin) ListAndWatch(_ *api.Empty, stream grpc.ServerStreamingServer[api.ListAndWatchResponse]) error {
	var sent []byte
	for stream.Context().Err() == nil {
		text, err := os.ReadFile(p.file)
		if err == nil && (sent == nil || !bytes.Equal(text, sent)) {
			if err := stream.Send(&api.ListAndWatchResponse{Devices: devices(string(text))}); err != nil {
				return err
			}
			sent = append([]byte{}, text...)
		}
		time.Sleep(pause)
	}
	return nil
}

func devices(text string) []*api.Device {
	var found []*api.Device
	for _, line := range strings.Split(text, "\n") {
		words := strings.Fields(line)
		if len(words) != 2 {
			continue
		}
		health := api.Unhealthy
		if words[1] == "ok" {
			health = api.Healthy
		}
		found = append(found, &api.Device{ID: words[0], Health: health})
	}
	return found
}

// Allocate answers with CDI devices, and with the variable that NVIDIA's plugin sets.
func (p *plugin) Allocate(_ context.Context, asked *api.AllocateRequest) (*api.AllocateResponse, error) {
	answer := &api.AllocateResponse{}
	for _, container := range asked.ContainerRequests {
		given := &api.ContainerAllocateResponse{
			Envs: map[string]string{"NVIDIA_VISIBLE_DEVICES": strings.Join(container.DevicesIds, ",")},
		}
		for _, id := range container.DevicesIds {
			given.CdiDevices = append(given.CdiDevices, &api.CDIDevice{Name: p.kind + "=" + id})
		}
		answer.ContainerResponses = append(answer.ContainerResponses, given)
	}
	return answer, nil
}

func main() {
	resource := flag.String("resource", "nvidia.com/gpu", "as pods request it")
	kind := flag.String("kind", "", "of the CDI devices")
	file := flag.String("devices", "", "the file with the GPUs")
	flag.Parse()
	for {
		if err := serve(*resource, &plugin{file: *file, kind: *kind}); err != nil {
			log.Print(err)
		}
		time.Sleep(pause)
	}
}

// serve returns when the kubelet has restarted, which deletes the sockets of plugins.
func serve(resource string, p *plugin) error {
	name := strings.NewReplacer("/", "-", ".", "-").Replace(resource) + ".sock"
	socket := filepath.Join(api.DevicePluginPath, name)
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	defer server.Stop()
	api.RegisterDevicePluginServer(server, p)
	go server.Serve(listener)
	if err := register(resource, name); err != nil {
		return err
	}
	for {
		if _, err := os.Stat(socket); err != nil {
			return nil
		}
		time.Sleep(pause)
	}
}

func register(resource, name string) error {
	connection, err := grpc.NewClient("unix://"+api.KubeletSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request := &api.RegisterRequest{Version: api.Version, Endpoint: name, ResourceName: resource}
	_, err = api.NewRegistrationClient(connection).Register(ctx, request)
	return err
}
