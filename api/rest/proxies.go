package rest

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Proxies are the addresses of proxies that are trusted, as prefixes. The zero value trusts no peer.
type Proxies []netip.Prefix

// UnmarshalText reads addresses and prefixes with commas between them, like 10.0.0.5,fd00::/8.
func (p *Proxies) UnmarshalText(text []byte) error {
	*p = nil
	for part := range strings.SplitSeq(string(text), ",") {
		prefix, err := proxyPrefix(strings.TrimSpace(part))
		if err != nil {
			return err
		}
		*p = append(*p, prefix)
	}
	return nil
}

// proxyPrefix reads an address or a prefix. The IPv4-mapped form of an IPv6 address becomes the IPv4 address.
func proxyPrefix(text string) (netip.Prefix, error) {
	var prefix netip.Prefix
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		prefix = netip.PrefixFrom(address, address.BitLen())
	} else if prefix, err = netip.ParsePrefix(text); err != nil {
		return prefix, fmt.Errorf("%q is neither an IP address nor a prefix: give the addresses of the proxies "+
			"like 10.0.0.5,192.168.0.0/16,fd00::/8", text)
	}
	if whole := prefix.Masked(); prefix != whole { // a typing error would trust more peers than the text shows
		return prefix, fmt.Errorf("%q has bits behind its length: give %s, or an address without a length", text, whole)
	}
	if prefix.Addr().Is4In6() { // its length is at least 96, because the address is masked
		prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
	}
	return prefix, nil
}

// trusts reports whether the peer of a connection is one of the proxies. remote is host:port, as in
// http.Request.RemoteAddr.
func (p Proxies) trusts(remote string) bool {
	if len(p) == 0 {
		return false
	}
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	address := peer.Addr().Unmap().WithZone("") // prefixes have no zone, and contain no address with one
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// forwardedHost is the form of a host that is taken from X-Forwarded-Host: a name or an address, and perhaps a port.
// It is written to answers.
var forwardedHost = regexp.MustCompile(`^([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$`)

// urlOf returns the URL that the caller asked for. A proxy that is trusted tells the host and the scheme that it was
// asked with; only the peer of the connection is believed, not a proxy before it.
func (p Proxies) urlOf(r *http.Request) string {
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if p.trusts(r.RemoteAddr) {
		if told := lastValue(r.Header, "X-Forwarded-Host"); forwardedHost.MatchString(told) {
			host = told
		}
		if told := strings.ToLower(lastValue(r.Header, "X-Forwarded-Proto")); told == "http" || told == "https" {
			scheme = told
		}
	}
	target := r.URL.RequestURI()
	if target == "*" { // OPTIONS of the whole server (RFC 9112, section 3.2.4)
		target = ""
	}
	return scheme + "://" + host + target
}

// lastValue returns the last value of a header that is a list. Proxies append: the last value is from the peer, and
// earlier ones may be the invention of a caller.
func lastValue(h http.Header, name string) string {
	lines := h.Values(name)
	if len(lines) == 0 {
		return ""
	}
	line := lines[len(lines)-1]
	return strings.TrimSpace(line[strings.LastIndexByte(line, ',')+1:])
}
