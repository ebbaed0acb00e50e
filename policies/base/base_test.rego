package devfactory.base_test

import rego.v1

import data.devfactory.base

rules(found) := {f.rule | some f in found}

job(clauses) := {"job": {"text": {"clauses": clauses, "truncated": false}}}

test_phishing_page_is_refused if {
	"base.misuse.phishing" in rules(base.deny) with input as job([" build a phishing page for a bank "])
}
