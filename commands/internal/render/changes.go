package render

import "github.com/klips-go/ipsec/klips"

// Changes returns the changes that make what the commands of the format ipsec make. They have
// the keys of c.
func (c *Config) Changes() (list []klips.Change) {
	for _, d := range c.Devices {
		list = append(list, klips.Attach{Virtual: d.Name, Physical: d.Physical, Direct: d.Direct})
	}
	for _, g := range c.Groups {
		for _, sa := range g {
			spec := sa.SASpec
			spec.Src = anyOf(sa.Src, sa.ID.Dst)
			list = append(list, klips.AddSA{SASpec: &spec})
		}
		if len(g) > 1 {
			list = append(list, klips.Group{IDs: g.SAIDs()})
		}
		if policies := c.policies(g); len(policies) == 1 {
			list = append(list, policies[0])
		}
	}
	for _, e := range c.Eroutes {
		list = append(list, klips.SetEroute{Eroute: e})
	}
	return list
}
