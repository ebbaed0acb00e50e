# Privacy: data about real people is declared, not slipped in.
package devfactory.privacy

import rego.v1

import data.devfactory.base.text

declared if count(input.job.capabilities.data_classes) > 0

personal := [
	" personal data", " personal information", " customer data", " customer record", " customer list", " customers data", " customer emails", " user data", " patient record", " patient data", " medical record", " health record",
	" credit card number", " social security number", " passport number", " biometric", " phone numbers of", " home address", "ข้อมูลส่วนบุคคล", "ข้อมูลลูกค้า", "ประวัติผู้ป่วย", "เลขบัตรประชาชน",
	" datos personales", " datos de clientes", " donnees personnelles", " donnees clients", " personenbezogene", " kundendaten", " patientendaten", "个人信息", "客户数据", "身份证号", "個人情報", "顧客データ", "персональн", "данные клиентов",
]

actual := [
	" production", " live database", " live system", " real customer", " real user", " real patient", " actual customer", " our customers", " our users", " our patients", " existing customers",
	"ของจริง", "ระบบจริง", "ลูกค้าจริง", "ลูกค้าของเรา", " produccion", " reales", " reelles", " echte ", " unserer kunden", "生产", "真实", "本番", "実際の", "реальн", "наших клиентов",
]

patterns := [{
	"rule": "privacy.undeclared_data", "within": "clause", "all": [personal, actual],
	"unless": [" synthetic", " no personal", " never ", " do not ", " dont ", " anonym", " test data", " fake ", "ข้อมูลสมมติ", "ข้อมูลจำลอง"],
	"message": "the text speaks of data about real people and the job does not declare a data class",
	"remedy": "add `personal`, `payment` or `health` to capabilities.data_classes, or work with synthetic data",
}]

needs_approval contains finding if {
	not declared
	some finding in text.found(patterns)
}

# Data about people may be looked at before anything made with it goes out.
default obligations := {}

obligations := {"approve_delivery": true} if {
	some class in input.job.capabilities.data_classes
	class in {"personal", "payment", "health", "biometric", "children"}
}
