package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"path"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const pause = 50 * time.Millisecond

// fault is what a test wants of one method: an answer with this code after so many seconds. Code "OK" only delays.
type fault struct {
	Code    codes.Code `json:"code"`
	Message string     `json:"message"`
	AfterS  float64    `json:"after_s"`
}

type faults struct {
	file string
	lock sync.Mutex
	busy map[string]bool
}

// find returns the fault of a method such as CreateSnapshot; none if there is no file.
func (f *faults) find(method string) (fault, bool) {
	text, err := os.ReadFile(f.file)
	if err != nil {
		return fault{}, false
	}
	wanted := map[string]fault{}
	if err := json.Unmarshal(text, &wanted); err != nil {
		log.Fatal(err)
	}
	found, ok := wanted[method]
	return found, ok
}

// intercept injects the faults, and refuses a call for a volume or snapshot on which another one works.
func (f *faults) intercept(
	ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler,
) (any, error) {
	method := path.Base(info.FullMethod)
	if err := f.inject(ctx, method); err != nil {
		log.Printf("%s: %v", method, err)
		return nil, err
	}
	if key := subject(request); key != "" {
		if !f.take(key) {
			return nil, status.Errorf(codes.Aborted, "another call works on %s", key)
		}
		defer f.release(key)
	}
	answer, err := handle(ctx, request)
	if err != nil {
		log.Printf("%s: %v", method, err)
	}
	return answer, err
}

func (f *faults) inject(ctx context.Context, method string) error {
	began := time.Now()
	for {
		found, ok := f.find(method)
		if !ok {
			return nil
		}
		if time.Since(began).Seconds() >= found.AfterS {
			return status.Error(found.Code, found.Message)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// subject is the volume or snapshot that a call is about; empty if it is about none.
func subject(request any) string {
	switch asked := request.(type) {
	case interface{ GetSnapshotId() string }:
		return asked.GetSnapshotId()
	case interface{ GetVolumeId() string }:
		return asked.GetVolumeId()
	case interface{ GetName() string }:
		return asked.GetName()
	}
	return ""
}

func (f *faults) take(key string) bool {
	f.lock.Lock()
	defer f.lock.Unlock()
	if f.busy[key] {
		return false
	}
	f.busy[key] = true
	return true
}

func (f *faults) release(key string) {
	f.lock.Lock()
	defer f.lock.Unlock()
	delete(f.busy, key)
}
