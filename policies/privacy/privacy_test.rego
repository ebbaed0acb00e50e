package devfactory.privacy_test

import rego.v1

import data.devfactory.privacy

job(clauses, classes) := {"job": {"text": {"clauses": clauses}, "capabilities": {"data_classes": classes}}}

rules(found) := {f.rule | some f in found}

test_real_peoples_data_waits if {
	every clause in [" export customer data from the production system ", " ส่งออก ข้อมูลลูกค้า จาก ระบบจริง ", " 导出生产库的客户数据 "] {
		"privacy.undeclared_data" in rules(privacy.needs_approval) with input as job([clause], [])
	}
}

test_synthetic_data_is_no_matter if {
	privacy.needs_approval == set() with input as job([" use synthetic customer data never the production data "], [])
}

test_declared_data_is_left_to_the_floor_and_delivery_waits if {
	clauses := [" export customer data from the production system "]
	privacy.needs_approval == set() with input as job(clauses, ["personal"])
	privacy.obligations.approve_delivery with input as job(clauses, ["personal"])
	privacy.obligations == {} with input as job([], [])
}
