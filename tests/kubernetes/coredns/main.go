// coredns with the plugins that a cluster's DNS needs, and no others: the full set would pull in the clients of several clouds.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
)

// Plugins run in this order, whatever the order in the Corefile.
func init() {
	dnsserver.Directives = []string{"reload", "bind", "health", "ready", "errors", "log", "kubernetes"}
}

func main() { coremain.Run() }
