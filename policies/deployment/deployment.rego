# Deployment: production is declared, not slipped in.
package devfactory.deployment

import rego.v1

import data.devfactory.base.text

production_names := {"production", "prod", "live"}

declared if {
	some name in input.job.capabilities.environments
	name in production_names
}

act := [
	" deploy", " roll out", " rollout", " release ", " releases ", " push ", " apply ", " run ", " migrat", " connect", " update", " change",
	"ดีพลอย", "นำขึ้น", "ปล่อย", "ต่อกับ", " despleg", " deploi", " ausroll", " einspiel", "部署", "发布", "上线", "デプロイ", "разверн", "выкат", "деплой",
]

production := [
	" to production", " in production", " on production", " into production", " production database", " production server", " production cluster", " production environment", " live server", " live database", " live system",
	"ระบบจริง", "โปรดักชัน", "โปรดักชั่น", " a produccion", " en produccion", " produktivsystem", " in produktion", "生产环境", "线上环境", "生产数据库", "本番", "в продакшен", "на проде", "в прод ",
]

patterns := [{
	"rule": "deployment.undeclared_production", "within": "clause", "all": [act, production],
	"unless": [" do not ", " dont ", " never ", " not be ", " no access ", " without touching", "ไม่ต้อง", "ห้าม", " nicht ", " kein ", "不要", "не нужно"],
	"message": "the text speaks of production and the job does not declare it",
	"remedy": "add `production` to capabilities.environments, or say that production is not touched",
}]

needs_approval contains finding if {
	not declared
	some finding in text.found(patterns)
}

# A port that only system services use is worth a look at what listens there.
warn contains {
	"rule": "deployment.system_port",
	"message": "the source opens a port that is reserved for system services",
	"evidence": sprintf("%d in %s", [p.port, p.file]),
	"remedy": "listen on 1024 or above",
} if {
	some p in input.job.source.ports
	p.port < 1024
	not p.port in {80, 443}
}
