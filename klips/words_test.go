package klips_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/klips-go/ipsec/klips"
)

// Enumerations are names in JSON; numbers from older daemons are accepted too.
func TestWords(t *testing.T) {
	type enums struct {
		Dir   klips.Direction `json:"dir"`
		State klips.State     `json:"state"`
		NATT  klips.NATTType  `json:"natt"`
	}
	for text, want := range map[string]enums{
		`{"dir":"out","state":"larval","natt":"none"}`:  {klips.Outbound, klips.Larval, klips.NATTNone},
		`{"dir":"in","state":"mature","natt":"nonike"}`: {klips.Inbound, klips.Mature, klips.NATTNonIKE},
		`{"dir":"in","state":"dying","natt":"nonesp"}`:  {klips.Inbound, klips.Dying, klips.NATTNonESP},
		`{"dir":"both","state":"dying","natt":"none"}`:  {klips.Both, klips.Dying, klips.NATTNone},
		`{"dir":"7","state":"dead","natt":"3"}`:         {7, klips.Dead, 3},
	} {
		b, err := json.Marshal(want)
		if err != nil || string(b) != text {
			t.Errorf("%+v is %s, %v; want %s", want, b, err, text)
		}
		var got enums
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
	}
	var got enums
	if err := json.Unmarshal([]byte(`{"dir":1,"state":2,"natt":2}`), &got); err != nil || got != (enums{klips.Inbound, klips.Dying, klips.NATTNonESP}) {
		t.Errorf("numbers: %+v, %v", got, err)
	}
	for _, bad := range []string{`{"dir":"up"}`, `{"state":256}`, `{"natt":-1}`, `{"dir":{}}`, `{"state":"` + strings.Repeat("x", 1000) + `"}`} {
		if err := json.Unmarshal([]byte(bad), &got); err == nil || len(err.Error()) > 120 {
			t.Errorf("%.40s: %v", bad, err)
		}
	}
	b, err := json.Marshal(klips.SA{})
	if err != nil || !strings.Contains(string(b), `"src":`) || strings.Contains(string(b), `"Src"`) {
		t.Errorf("%s, %v", b, err)
	}
}
