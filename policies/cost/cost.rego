# Cost: what a job may spend is said beforehand.
package devfactory.cost

import rego.v1

# Above this a person agrees first, whatever the operator's cap.
large_tokens := 50000000

large_nano_usd := 100000000000

warn contains {
	"rule": "cost.no_budget",
	"message": "the job does not say what it may spend, so it may spend what the operator allows at most",
	"evidence": sprintf("%d tokens", [input.limits.tokens]),
	"remedy": "give budget.tokens or budget.money_nano_usd",
} if {
	not asked("tokens")
	not asked("money_nano_usd")
}

needs_approval contains {
	"rule": "cost.large",
	"message": "the job asks for a large budget",
	"evidence": sprintf("%d tokens", [input.job.budget.tokens]),
	"remedy": sprintf("ask for %d tokens or less", [large_tokens]),
} if input.job.budget.tokens > large_tokens

needs_approval contains {
	"rule": "cost.large",
	"message": "the job asks for a large budget",
	"evidence": sprintf("%d nano-USD", [input.job.budget.money_nano_usd]),
	"remedy": sprintf("ask for %d nano-USD or less", [large_nano_usd]),
} if input.job.budget.money_nano_usd > large_nano_usd

asked(field) if input.job.budget[field]
