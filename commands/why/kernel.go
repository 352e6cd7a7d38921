package why

// counter returns what a counter of /proc/net/xfrm_stat means, in words.
// Documentation/networking/xfrm_proc.rst of the kernel lists them.
func counter(name string) string {
	switch name {
	case "XfrmInError":
		return "an error without a counter of its own"
	case "XfrmInBufferError":
		return "no memory for an inbound packet"
	case "XfrmInHdrError":
		return "a header of an inbound packet is not valid"
	case "XfrmInNoStates":
		return "no SA has the SPI, the protocol and the destination of an inbound packet"
	case "XfrmInStateProtoError":
		return "the integrity check or the padding of an inbound packet is wrong: most likely another key or algorithm"
	case "XfrmInStateModeError":
		return "an inbound packet is not in the mode of its SA, tunnel or transport"
	case "XfrmInStateSeqError":
		return "the number of an inbound packet was received before, or is below the window"
	case "XfrmInStateExpired":
		return "the SA of an inbound packet has expired"
	case "XfrmInStateMismatch":
		return "an inbound packet is in UDP and its SA is not, or the other way round, or the SA is of another xfrm interface"
	case "XfrmInStateInvalid":
		return "the SA of an inbound packet is not valid any more"
	case "XfrmInStateDirError":
		return "an inbound packet has met an SA for outbound packets"
	case "XfrmInTmplMismatch":
		return "the SAs of an inbound packet are not those that its policy demands"
	case "XfrmInNoPols":
		return "no policy admits what came out of the SAs of an inbound packet"
	case "XfrmInPolBlock":
		return "a policy blocks an inbound packet"
	case "XfrmInPolError":
		return "the policies of an inbound packet could not be searched"
	case "XfrmAcquireError":
		return "the SA of a packet has no keys yet"
	case "XfrmFwdHdrError":
		return "a packet is to be forwarded, and its header is not valid for that"
	case "XfrmOutError":
		return "an outbound packet could not be protected"
	case "XfrmOutBundleGenError", "XfrmOutBundleCheckError":
		return "the SAs of an outbound packet could not be put together"
	case "XfrmOutNoStates":
		return "the policy of an outbound packet demands an SA that does not exist"
	case "XfrmOutStateProtoError":
		return "an SA could not transform an outbound packet"
	case "XfrmOutStateModeError":
		return "an outbound packet does not fit the mode of its SA, or is too long for it"
	case "XfrmOutStateSeqError":
		return "all sequence numbers of an SA are used"
	case "XfrmOutStateExpired":
		return "the SA of an outbound packet has expired"
	case "XfrmOutPolBlock":
		return "a policy blocks an outbound packet"
	case "XfrmOutPolDead":
		return "the policy of an outbound packet has just been removed"
	case "XfrmOutPolError":
		return "the policies of an outbound packet could not be searched"
	case "XfrmOutStateInvalid":
		return "the SA of an outbound packet is not valid any more"
	case "XfrmOutStateDirError":
		return "an outbound packet has met an SA for inbound packets"
	case "XfrmOutNoQueueSpace":
		return "too many packets wait for an SA"
	}
	return "a counter of a later kernel"
}
