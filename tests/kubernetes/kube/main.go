// weft-kube is a whole Kubernetes in one program: the first argument, or the name it is called by, says which part runs. One program links
// the shared code once: seven would take seven times the disk and the link time.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

const (
	// Watches learn the current revision this often. etcd's own ten minutes would let a quiet watch fall behind a compaction.
	progressInterval = 5 * time.Second
	// A local etcd answers in milliseconds; one that does not in this time is gone.
	requestTimeout = 10 * time.Second
)

// The parts, by the name that the program is called by or that its first argument is.
var parts = map[string]func() error{
	"etcd":                    serveEtcd,
	"etcd-compact":            compactEtcd,
	"service-account-key":     writeServiceAccountKey,
	"kube-apiserver":          component(apiserver.NewAPIServerCommand),
	"kube-controller-manager": component(controllermanager.NewControllerManagerCommand),
	"kube-proxy":              component(kubeproxy.NewProxyCommand),
	"kube-scheduler":          component(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kubectl":                 runKubectl,
	"kubelet":                 component(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
}

func main() {
	name := filepath.Base(os.Args[0])
	run, known := parts[name]
	if !known && len(os.Args) > 1 {
		name = os.Args[1]
		run, known = parts[name]
		// each part reads its own arguments from os.Args
		os.Args = append([]string{name}, os.Args[2:]...)
	}
	if !known {
		names := slices.Sorted(maps.Keys(parts))
		fmt.Fprintf(os.Stderr, "usage: weft-kube PART [ARGUMENTS]; a PART is one of %s\n", strings.Join(names, ", "))
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// component runs one of Kubernetes' own commands; it ends the process with the command's exit code.
func component(make func() *cobra.Command) func() error {
	return func() error {
		os.Exit(cli.Run(make()))
		return nil
	}
}

// runKubectl prints errors the way kubectl does.
func runKubectl() error {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		kubectlutil.CheckErr(err)
	}
	return nil
}

// serveEtcd is a store with one member, for tests: what was written does not survive a crash of the machine.
func serveEtcd() error {
	arguments, err := argumentsFor("etcd", "DIR", "CLIENT_URL")
	if err != nil {
		return err
	}
	client, err := url.Parse(arguments[1])
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Dir = arguments[0]
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = config.ListenClientUrls
	// no other member ever calls: any free port will do
	config.ListenPeerUrls = []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config.AdvertisePeerUrls = config.ListenPeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	config.LogLevel = "warn"
	config.UnsafeNoFsync = true
	// zero, which stands here else, means a warning for every request
	config.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	config.WatchProgressNotifyInterval = progressInterval
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGINT, syscall.SIGTERM)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	select {
	case err := <-server.Err():
		return err
	case <-ended:
		return nil
	}
}

// compactEtcd forgets all history up to now: whoever asks for an older resourceVersion is told that it is gone.
func compactEtcd() error {
	arguments, err := argumentsFor("etcd-compact", "URL")
	if err != nil {
		return err
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: arguments, DialTimeout: requestTimeout})
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	// the answer's header holds the store's revision, whether the key exists or not
	now, err := client.Get(ctx, "weft-kube-revision")
	if err != nil {
		return err
	}
	if _, err := client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	fmt.Println(now.Header.Revision)
	return nil
}

// writeServiceAccountKey makes the key that signs the tokens of service accounts.
func writeServiceAccountKey() error {
	arguments, err := argumentsFor("service-account-key", "FILE")
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(arguments[0], pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// argumentsFor checks that there is one argument for each name.
func argumentsFor(part string, names ...string) ([]string, error) {
	arguments := os.Args[1:]
	if len(arguments) != len(names) {
		return nil, fmt.Errorf("usage: %s %s", part, strings.Join(names, " "))
	}
	return arguments, nil
}
