//go:build tools

// Istio's echo server and client, which the conformance suite's pods run, are built as they are: these imports only tell Go which modules they need.
package echo

import (
	_ "istio.io/istio/pkg/test/echo/cmd/client"
	_ "istio.io/istio/pkg/test/echo/cmd/server"
)
