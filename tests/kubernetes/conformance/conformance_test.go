// The Gateway API's own conformance suite as one test program: what it runs, and against what, its flags say.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) {
	conformance.RunConformance(t)
}
