package devfactory.cost_test

import rego.v1

import data.devfactory.cost

with_budget(budget) := {"job": {"budget": budget}, "limits": {"tokens": 7}}

rules(found) := {f.rule | some f in found}

test_a_job_that_names_tokens_is_silent if {
	cost.warn == set() with input as with_budget({"tokens": 1000})
	cost.needs_approval == set() with input as with_budget({"tokens": 1000})
}

test_a_job_that_names_nothing_is_told if "cost.no_budget" in rules(cost.warn) with input as with_budget({})

test_a_large_job_waits if {
	"cost.large" in rules(cost.needs_approval) with input as with_budget({"tokens": 50000001})
	"cost.large" in rules(cost.needs_approval) with input as with_budget({"money_nano_usd": 100000000001})
	cost.needs_approval == set() with input as with_budget({"tokens": 50000000, "money_nano_usd": 100000000000})
}
