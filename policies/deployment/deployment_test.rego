package devfactory.deployment_test

import rego.v1

import data.devfactory.deployment

job(clauses, environments) := {"job": {
	"text": {"clauses": clauses},
	"capabilities": {"environments": environments},
	"source": {"ports": []},
}}

rules(found) := {f.rule | some f in found}

test_production_in_words_alone_waits if {
	some clause in [" deploy the service to production ", " นำขึ้น ระบบจริง ", " 部署到生产环境 "]
	"deployment.undeclared_production" in rules(deployment.needs_approval) with input as job([clause], [])
}

test_declared_production_is_left_to_the_floor if {
	deployment.needs_approval == set() with input as job([" deploy the service to production "], ["production"])
}

test_production_that_is_left_alone_is_no_matter if {
	deployment.needs_approval == set() with input as job([" do not deploy to production "], [])
	deployment.needs_approval == set() with input as job([" write production ready code "], [])
}

test_system_ports_are_mentioned if {
	some port in [22, 1023]
	ports := {"job": {"text": {"clauses": []}, "capabilities": {"environments": []}, "source": {"ports": [{"port": port, "file": "Dockerfile"}]}}}
	"deployment.system_port" in rules(deployment.warn) with input as ports
}
