package etcd

import "slices"

// AddEndpoints has the client ask further client URLs, after those that it knows: those of members that it was told of, when
// the member whose endpoint it was given is to go.
func (c *Client) AddEndpoints(urls ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range urls {
		if !slices.Contains(c.order, u) {
			c.order = append(c.order, u)
		}
	}
}
