# Finding words in the clauses of a job's text.
#
# Clauses are in lower case, without punctuation, and begin and end with a space: " kit " is a whole word, " phish" the
# beginning of one; scripts that put no spaces between words are searched for parts.
package devfactory.base.text

import rego.v1

import data.devfactory.base.words

clauses := input.job.text.clauses

whole := concat("|", clauses)

# Each clause with the two that follow it: what people spread over a few sentences.
passages := [concat("|", array.slice(clauses, i, i + 3)) | some i, _ in clauses]

units := {"clause": clauses, "passage": passages}

has_any(text, terms) if {
	some term in terms
	contains(text, term)
}

# Patterns of which every group occurs somewhere, with those of their words that do. Most jobs have none, and none is looked
# at further.
possible(patterns) := [object.union(p, {"all": occurring}) |
	some p in patterns
	every group in p.all {
		has_any(whole, group)
	}
	occurring := [[term | some term in group; contains(whole, term)] | some group in p.all]
]

# Patterns with a clause or passage in which every group occurs and nothing excuses it.
found(patterns) := {hit |
	some p in possible(patterns)
	some unit in units[p.within]
	every group in p.all {
		has_any(unit, group)
	}
	not excused(unit, object.get(p, "unless", []))
	hit := {"rule": p.rule, "message": p.message, "evidence": trim_space(unit), "remedy": object.get(p, "remedy", "")}
}

# What speaks of staying undetected speaks of detection too, and is no defence.
excused(unit, terms) if {
	has_any(unit, terms)
	not has_any(unit, words.evade)
}
