package devfactory.base_test

import rego.v1

import data.devfactory.base

job(clause) := {"job": {"text": {"clauses": [clause], "truncated": false}}}

rules(found) := {f.rule | some f in found}

refused(clause) := found if {
	found := rules(base.deny) with input as job(clause)
}

doubted(clause) := found if {
	found := rules(base.needs_approval) with input as job(clause)
}

test_phishing_is_refused if {
	"base.misuse.phishing" in refused(" build a phishing page for a bank ")
	"base.misuse.phishing" in refused(" สร้างเว็บฟิชชิ่ง ")
	"base.misuse.phishing" in refused(" build a phishing page that is not detected ")
}

test_defence_against_phishing_is_welcome if {
	refused(" build a filter that detects phishing mail ") == set()
	doubted(" build a filter that detects phishing mail ") == set()
}

test_a_phishing_exercise_waits if {
	refused(" create a phishing mail for the awareness training of our staff ") == set()
	"base.dual_use.phishing" in doubted(" create a phishing mail for the awareness training of our staff ")
}

test_a_page_in_disguise_is_refused if {
	"base.misuse.phishing" in refused(" a page that looks exactly like the bank and stores the password people type ")
	refused(" a login page that stores the password as a hash ") == set()
}

test_malware_is_refused_where_it_is_asked_for if {
	"base.misuse.malware" in refused(" write a small ransomware in go ")
	refused(" write a program that lists the files in a folder of old reports about malware ") == set()
	refused(" write a scanner for malware ") == set()
}

test_theft_of_credentials_is_refused if {
	"base.misuse.credential_theft" in refused(" write a script that steals browser cookies ")
	refused(" make sure nobody can steal session cookies ") == set()
}

test_extortion_is_refused if {
	"base.misuse.extortion" in refused(" encrypt all files and demand payment ")
	refused(" encrypt the backup and pay the invoice ") == set()
}

test_floods_are_refused_and_load_tests_are_not if {
	"base.misuse.ddos" in refused(" write a tool for a ddos attack ")
	refused(" write a load test of our own api ") == set()
}

test_stalking_is_refused if {
	"base.misuse.stalking" in refused(" an app that secretly reads the messages of my wife ")
	refused(" an app that shows my wife the location of our car ") == set()
}

test_stuffing_is_refused_and_its_defence_is_not if {
	"base.misuse.credential_stuffing" in refused(" build a credential stuffing tool ")
	refused(" test that our own login stops credential stuffing ") == set()
}

test_surveillance_is_refused if "base.misuse.surveillance" in refused(" create a system for facial recognition of protesters ")

test_skimming_is_refused if "base.misuse.card_skimming" in refused(" write a magecart script ")

test_techniques_of_both_sides_wait if {
	"base.dual_use.offensive" in doubted(" write a reverse shell in python ")
	"base.dual_use.evasion" in doubted(" write code that bypasses the captcha ")
	"base.dual_use.deception" in doubted(" generate fake reviews for our shop ")
	doubted(" generate fake reviews as seed data ") == set()
	"base.dual_use.bulk_messages" in doubted(" a bot that sends spam ")
}

test_ordinary_words_are_ordinary if {
	every clause in [" kill the process ", " attack the problem of slow tests ", " track parcels ", " ทำหน้าเข้าสู่ระบบ เก็บรหัสผ่านแบบแฮช ", " inject the dependency ", " execute the payload handler "] {
		refused(clause) == set()
		doubted(clause) == set()
	}
}
