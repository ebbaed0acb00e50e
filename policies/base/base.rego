# The base pack: part of every bundle, beyond anybody's power to change or remove.
package devfactory.base

import rego.v1

import data.devfactory.base.misuse

deny contains finding if some finding in misuse.denied

needs_approval contains finding if some finding in misuse.doubtful
