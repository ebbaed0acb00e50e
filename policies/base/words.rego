# Words that several misuse rules share. Languages stand side by side; none weighs more than another.
package devfactory.base.words

import rego.v1

make := [
	" build", " creat", " make ", " write", " develop", " design", " generat", " set up", " deploy", " host ", " send", " code ",
	" craft", " implement", " produce", " program ", " need ", " want ", " give me", " launch", " run a ", " automate",
	"สร้าง", "ทำ", "เขียน", "พัฒนา", "ส่ง", "อยากได้", "ต้องการ",
	" crear", " crea ", " haz ", " escrib", " desarroll", " programa", " erstell", " baue", " schreib", " entwick", " cree", " ecri", " developp",
	"制作", "创建", "编写", "开发", "搭建", "写一个", "做一个", "作成", "作って", "作る", "開発", "созда", "напиш", "разработ", "сдела",
]

# Said plainly of what stands in an attack's way.
stops := [
	" detect", " prevent", " block", " protect ", " protects ", " protection", " against ", " mitigat", " rate limit", " our own", " lockout", " stop ", " stops ", " alert when", " alerts when", " warns",
	"ป้องกัน", "ตรวจจับ", "เตือน", " prevenir", " evitar", " erkenn", " verhinder", " abwehr", " empech", " eviter", "检测", "防止", "防范", "拦截", "検出", "検知", "防ぐ", "防止", "対策", "обнаруж", "предотвр", "защищ",
]

# Work against misuse uses the same nouns as misuse.
defend := [
	" detect", " prevent", " block", " protect", " defend", " defence", " defense", " against ", " mitigat", " classif", " filter",
	" identif", " recogni", " warn", " stop ", " stops ", " flag ", " flags ", " flagged", " analys", " analyz", " quarantin", " scan", " anti ", " antivirus",
	" remov", " report", " monitor for", " alert", " nobody can", " no one can", " cannot ", " lockout", " rate limit", " resist", " resilien", " mitiga",
	" explain how to avoid", " guard", " harden", " forbid", " refus", " reject", " secure against", " safe from", " vulnerab",
	"ป้องกัน", "ตรวจจับ", "ตรวจสอบ", "รู้เท่าทัน", "เตือน", "กรอง",
	" prevenir", " proteger", " evitar", " erkenn", " schutz", " schutz", " verhinder", " abwehr", " empech", " proteg", " eviter",
	"检测", "防止", "防范", "识别", "过滤", "拦截", "検出", "検知", "防ぐ", "防止", "対策", "обнаруж", "защит", "предотвр", "фильтр",
]

# Staying out of the sight of those who defend.
evade := [
	" undetect", " not detected", " not be detected", " not get detected", " isnt detected", " arent detected", " without being detected", " without detection", " avoid detection", " avoids detection", " avoiding detection", " escape detection",
	" cannot detect", " cannot be detected", " cant be detected", " never detected", " evad", " out of sight of", " bypasses", " bypassing", " past the filter", " past spam filter",
	"ไม่ให้ตรวจจับ", "ไม่ถูกตรวจจับ", "หลบเลี่ยง", "เลี่ยงการตรวจ", " sin ser detectad", " indetect", " unentdeckt", " unerkannt", " sans etre detect", "不被检测", "不被发现", "绕过", "免杀", "検知されない", "検出されない", "необнаруж", "незаметн", "в обход",
]

# Exercises with consent: a person should look at them, and they are no reason to refuse.
exercise := [
	" awareness", " training", " simulat", " exercise", " red team", " authorised", " authorized", " pentest", " penetration test",
	" with consent", " own staff", " our staff", " our employees", " educat", " teach", " ฝึก", "อบรม", "จำลอง", "ซ้อม",
	" simulacro", " concienciacion", " schulung", " ubung", " sensibilisation", "演练", "培训", "訓練", "учени", "обучен",
]

# Said of people who do not know what is done to them.
secretly := [
	" secretly", " covert", " without her", " without his", " without their", " without them", " without the user", " without the owner",
	" without consent", " unnoticed", " hidden from", " so they dont know", " dont know they", " unsuspecting", " behind their back", " stealth",
	"แอบ", "โดยไม่รู้", "โดยที่เขาไม่รู้", "โดยไม่ให้รู้", "ไม่ให้รู้ตัว",
	" en secreto", " sin que ", " a l insu", " a son insu", " heimlich", " ohne dass ", "偷偷", "暗中", "不知情", "こっそり", "気づかれ", "тайно", "незаметно",
]

victims := [
	" victim", " unsuspecting", " their bank", " targets ", " target s ", "เหยื่อ", " victima", " victime", " opfer", "受害", "被害者", "жертв",
]

credentials := [
	" password", " credential", " login detail", " login data", " logins ", " pin code", " pin number", " otp", " one time code", " card number", " credit card", " card detail", " bank detail",
	" bank account", " banking detail", " session cookie", " session token", " cookies", " seed phrase", " private key", " wallet", "รหัสผ่าน", "ข้อมูลบัตร", "เลขบัตร", "บัตรเครดิต", "โอทีพี",
	" contrasena", " clave", " tarjeta", " mot de passe", " mots de passe", " identifiants", " carte bancaire", " passwort", " passworter", " kennwort", " zugangsdaten", " bankdaten",
	"密码", "账号", "银行卡", "パスワード", "暗証番号", "парол", "логин", "банковск",
]

# Taking what is not given.
steal := [
	" steal", " harvest", " siphon", " exfiltrat", " phish", " swipe ", " skim ", " skims ", " grab ", " grabs ", " hijack",
	"ขโมย", "ดักจับ", "ดักเอา", "หลอกเอา", "ล้วง",
	" robar", " roba ", " robe ", " voler ", " vole ", " stehl", " stiehlt", " abgreif", " abfisch", "窃取", "盗取", "骗取", "盗む", "盗み", "盗って", "украсть", "крад", "похищ", "ворует", "воровать",
]

# Keeping what people type: innocent but for where they are typing it.
keep := array.concat(steal, [
	" captur", " collect", " record", " save", " store", " log ", " logs ", " forward", " send", " email", " receive",
	"เก็บ", "บันทึก", "ส่ง", " guard", " envia", " enregistr", " envoi", " speicher", " schick", " send", "保存", "收集", "发送", "記録", "送信", "сохран", "отправ", "собира",
])

# Pages that pretend to be somebody else's.
imitation := [
	" fake login", " fake log in", " fake sign in", " fake bank", " fake website", " fake web site", " fake page", " fake site", " fake portal", " fake shop", " fake microsoft", " fake google", " fake facebook",
	" looks exactly like", " look exactly like", " looks just like", " looks identical to", " indistinguishable from", " pixel perfect copy", " pixel perfect clone", " exact copy of", " exact clone of", " lookalike", " look alike", " spoof",
	" imitates the", " imitating the", " imitation of", " mimics the", " mimicking the", " pretends to be", " pretending to be", " poses as", " posing as", " impersonates the", " impersonating",
	"ปลอม", "เลียนแบบ", " falsa", " falso", " identica a", " suplant", " fausse ", " faux site", " gefalscht", " nachgebaut", " tauschend echt",
	"假冒", "伪造", "仿冒", "假的", "偽", "そっくり", "поддельн", "фальшив",
]
