package klips

// A Knob is a setting of a whole stack: 0 or 1, except for natt_keepalive, which is in
// seconds.
type Knob struct {
	Name  string `json:"name"`
	Value int    `json:"value"`
}
