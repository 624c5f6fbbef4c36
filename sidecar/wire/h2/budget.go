package h2

// budget is what a peer may spend on frames that carry nothing: pings, settings,
// empty DATA, tiny window updates, priorities, unknown types, resets. Useful
// frames earn it, and so does time; when it is spent, the connection ends with
// ENHANCE_YOUR_CALM.
type budget struct {
	left, most int
}

func newBudget(most int) budget { return budget{most, most} }

// spend reports whether there was that much left.
func (b *budget) spend(n int) bool {
	b.left -= n
	return b.left >= 0
}

// heavy is the weight of what costs us far more than it costs the peer, and which
// an honest one seldom does: eight times at once are too many.
func (b *budget) heavy() int { return b.most/8 + 1 }

func (b *budget) earn(n int) { b.left = min(b.left+n, b.most) }
