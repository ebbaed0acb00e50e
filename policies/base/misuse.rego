# Misuse: an act and its object in one clause or passage, never a word alone.
package devfactory.base.misuse

import rego.v1

import data.devfactory.base.text
import data.devfactory.base.words

remedy := "describe software that works with the knowledge of the people it touches; work against misuse is welcome and should say so"

phishing := [
	" phish", " pishing", " spearphish", " spear phish", " smishing", "ฟิชชิ่ง", "ฟิชชิง", "钓鱼网", "钓鱼页", "钓鱼邮", "网络钓鱼", "フィッシング", "фишинг",
]

artefacts := [
	" kit", " page", " site", " website", " campaign", " mail", " email", " template", " landing", " form ", " panel", " link", " toolkit", " sms", " message", " clone",
	"เว็บ", "หน้า", "อีเมล", "ลิงก์", " pagina", " sitio", " correo", " seite", " mails", " courriel", "页", "网站", "邮件", "サイト", "ページ", "メール", "сайт", "страниц", "письм", "рассыл",
]

malware := [
	" ransomware", " keylogger", " key logger", " rootkit", " botnet", " trojan", " spyware", " stalkerware", " infostealer", " info stealer",
	" password stealer", " credential stealer", " cookie stealer", " cryptojack", " malware", " computer virus", " computer worm", " self replicating", " self spreading",
	" logic bomb", " wiper", " fork bomb that",
	"มัลแวร์", "แรนซัมแวร์", "โทรจัน", "ไวรัสคอมพิวเตอร์", "คีย์ล็อกเกอร์", "สปายแวร์", "ไวรัสเรียกค่าไถ่",
	" virus informatico", " troyano", " rancongiciel", " logiciel malveillant", " cheval de troie", " schadsoftware", " erpressungstrojaner",
	"勒索软件", "勒索病毒", "木马", "恶意软件", "键盘记录", "病毒程序", "ランサムウェア", "マルウェア", "キーロガー", "ウイルスを", "вредонос", "вымогател", "кейлоггер", "троян", "вирус ",
]

floods := [
	" ddos", " denial of service", " http flood", " syn flood", " udp flood", " stresser", " booter", " slowloris", "ดีดอส", "ยิงเว็บ", "ถล่มเว็บ",
	" denegacion de servicio", " deni de service", "拒绝服务", "ддос",
]

attack := [
	" attack", " launch", " flood", " take down", " takes down", " bring down", " knock", " tool", " script", " bot ", " bots ", " overwhelm", " cripple", " against a ",
	"โจมตี", "ถล่ม", "ล่ม", " atacar", " ataque", " tumbar", " attaqu", " angriff", " angreif", " lahm", "攻击", "攻撃", "атак",
]

people := [
	" girlfriend", " boyfriend", " wife", " husband", " spouse", " my partner", " my ex ", " ex girlfriend", " ex wife", " ex husband", " ex boyfriend", " someones phone", " someone elses", " other peoples", " another persons",
	" a persons", " her phone", " his phone", " their phone", " target phone", " targets phone", " victims phone", " coworker", " colleague", " roommate", " neighbor", " neighbour", " employees private",
	"แฟน", "ภรรยา", "สามี", "เมีย", "ผัว", "คนอื่น", "เพื่อนบ้าน", " mi novia", " mi novio", " mi esposa", " mi marido", " mi pareja", " ma femme", " mon mari", " ma copine", " freundin", " ehefrau", " ehemann", " exfreundin",
	"女友", "男友", "妻子", "丈夫", "老婆", "老公", "他人", "別人", "恋人", "彼女", "彼氏", "妻", "夫の", "девушк", "жены", "жену", "мужа", "бывш",
]

watch := [
	" track", " spy", " spies", " monitor", " read ", " reads ", " record", " intercept", " listen", " eavesdrop", " watch", " stalk", " follow", " location", " gps", " messages", " see what",
	"ติดตาม", "ดู", "อ่าน", "ฟัง", "สอดแนม", "ตำแหน่ง", "ข้อความ", "แชท", " espi", " rastre", " leer ", " lire ", " localis", " suivre", " uberwach", " ausspion", " mitles", " orte",
	"监视", "监控", "跟踪", "定位", "聊天", "監視", "追跡", "盗聴", "位置", "следи", "отслеж", "чита", "прослуш",
]

stuffing := [
	" credential stuffing", " combo list", " combolist", " account checker", " account cracker", " password spray", " account takeover", " crack accounts", " leaked passwords against", " leaked credentials against",
	"撞库", "リスト型攻撃",
]

oppressed := [
	" protester", " protestor", " dissident", " activist", " journalist", " ethnic", " religious minorit", " minorities", " political opponent", " opposition member", " uyghur", " rohingya", " refugees",
	"ผู้ประท้วง", "นักกิจกรรม", "ผู้เห็นต่าง", " disidente", " manifestante", " opposant", " demonstrant", " oppositionell", "抗议者", "异见", "少数民族", "活動家", "оппозицион", "протестующ",
]

surveil := [
	" facial recognition", " face recognition", " surveil", " track ", " tracks ", " tracking ", " identify and ", " spy on", " locate ", " blacklist", " watchlist", " deanonymi", " de anonymi", " unmask",
	"จดจำใบหน้า", "สอดแนม", "ติดตามตัว", "ระบุตัว", " reconocimiento facial", " reconnaissance faciale", " gesichtserkennung", "人脸识别", "監視", "顔認証", "слежк", "распознаван",
]

refuse := [
	{
		"rule": "base.misuse.phishing", "within": "clause", "all": [phishing, artefacts, words.make],
		"unless": array.concat(words.defend, words.exercise), "remedy": remedy,
		"message": "the job asks for something that tricks people into giving away their credentials",
	},
	{
		"rule": "base.misuse.phishing", "within": "passage", "all": [words.imitation, words.keep, words.credentials, impersonated],
		"unless": array.concat(words.defend, words.exercise), "remedy": remedy,
		"message": "the job asks for a page that passes for somebody else's and keeps what people type into it",
	},
	{
		"rule": "base.misuse.credential_theft", "within": "clause", "all": [words.steal, words.credentials, array.concat(words.make, words.victims)],
		"unless": array.concat(words.defend, words.exercise), "remedy": remedy,
		"message": "the job asks for software that takes other people's credentials",
	},
	{
		"rule": "base.misuse.extortion", "within": "clause", "all": [[" encrypt", "เข้ารหัส", " cifr", " chiffr", " verschlussel", "加密", "暗号化", "шифр"], ransom],
		"unless": array.concat(words.defend, [" recover", " decryptor", " backup", " back up"]), "remedy": remedy,
		"message": "the job asks for software that holds data to ransom",
	},
	{
		"rule": "base.misuse.ddos", "within": "clause", "all": [floods, attack, words.make],
		"unless": array.concat(words.defend, array.concat(words.exercise, [" load test", " our own", " withstand", " surviv"])), "remedy": remedy,
		"message": "the job asks for a means to put somebody else's service out of action",
	},
	{
		"rule": "base.misuse.stalking", "within": "passage", "all": [watch, people, words.secretly],
		"unless": array.concat(words.defend, words.exercise), "remedy": remedy,
		"message": "the job asks for software that watches a person who does not know",
	},
	{
		"rule": "base.misuse.credential_stuffing", "within": "clause", "all": [stuffing, array.concat(words.make, attack)],
		"unless": array.concat(words.defend, array.concat(words.exercise, [" our own", " our login"])), "remedy": remedy,
		"message": "the job asks for a means to break into other people's accounts",
	},
	{
		"rule": "base.misuse.surveillance", "within": "clause", "all": [surveil, oppressed, array.concat(words.make, [" system", " app ", "ระบบ", "系统", "システム", "систем"])],
		"unless": [" anonymi", " protect ", " blur", " document abuse", "ปกปิด", "เบลอ", "匿名", "обезлич"], "remedy": remedy,
		"message": "the job asks for surveillance of people for what they believe or are",
	},
	{
		"rule": "base.misuse.card_skimming", "within": "clause", "all": [[" skimmer", " magecart", " formjack", " carding ", " skims card", " skim card"], array.concat(words.make, [" inject"])],
		"unless": array.concat(words.defend, words.exercise), "remedy": remedy,
		"message": "the job asks for software that takes payment data from shoppers",
	},
]

ransom := [
	" ransom", " demand payment", " demands payment", " demand bitcoin", " demands bitcoin", " pay to unlock", " until they pay", " until the victim pays",
	"ค่าไถ่", " rescate", " rancon", " losegeld", "赎金", "勒索", "身代金", "выкуп",
]

# Who is imitated: a page that looks like another page of one's own is no imitation.
impersonated := [
	" bank", " paypal", " microsoft", " office 365", " google", " gmail", " apple", " icloud", " facebook", " instagram", " amazon", " netflix", " government", " tax ", " post office", " courier", " company login", " their login", " victim",
	" official", " real site", " real website", " real login", " real one", " well known", " popular ", " brand", "ธนาคาร", "เฟซบุ๊ก", "เฟสบุ๊ก", "ของจริง", "ราชการ", " banco", " banque", " sparkasse", "银行", "官方", "微信", "銀行", "公式", "банк", "госуслуг",
]

# Malware is asked for when the verb stands within six words before the noun; "a scanner that lists known malware" is
# not. Scripts without spaces have no such order, and there the clause must hold both.
malware_wanted contains clause if {
	some clause in text.clauses
	text.has_any(clause, malware)
	not text.excused(clause, words.defend)
	not text.excused(clause, words.exercise)
	asks_for(clause)
}

asks_for(clause) if {
	all := split(trim_space(clause), " ")
	some i, word in all
	some verb in words.make
	startswith(sprintf(" %s ", [word]), verb)
	text.has_any(sprintf(" %s ", [concat(" ", array.slice(all, i + 1, i + 7))]), malware)
}

asks_for(clause) if {
	text.has_any(clause, [t | some t in malware; not startswith(t, " ")])
	text.has_any(clause, words.make)
}

# What a person should look at: work that serves attack and defence alike.
consider := [
	{
		"rule": "base.dual_use.phishing", "within": "clause", "all": [phishing, artefacts, words.exercise], "unless": [" detect", " classif", " filter"],
		"message": "an exercise in deceiving people needs somebody who answers for it",
		"remedy": "name who ordered the exercise, so that an approver can agree",
	},
	{
		"rule": "base.dual_use.offensive", "within": "clause", "all": [offensive, words.make], "unless": words.stops,
		"message": "the job asks for a technique that serves attacks as well as their study",
		"remedy": "say whose systems it is for and who allowed it, so that an approver can agree",
	},
	{
		"rule": "base.dual_use.evasion", "within": "clause",
		"all": [[" evad", " bypass", " circumvent", " disabl", " avoid detection", " hide from", " undetect", "หลบเลี่ยง", "เลี่ยงการตรวจ", " eludir", " contourn", " umgeh", "绕过", "回避", "обход"],
			[" antivirus", " anti virus", " edr ", " endpoint protection", " windows defender", " firewall", " security software", " security tool", " captcha", " fraud detection", " kyc ", " malware detection", " sandbox detection", " audit log", " event log", "แอนตี้ไวรัส", "杀毒", "验证码", "антивирус"]],
		"message": "the job asks for a way round a protection",
		"remedy": "say whose protection it is and who allowed it, so that an approver can agree",
	},
	{
		"rule": "base.dual_use.deception", "within": "clause",
		"all": [[" fake review", " fake follower", " fake likes", " fake accounts", " fake news", " deepfake", " bot followers", " sock puppet", " astroturf", " counterfeit", " forged ", " fake id ", " fake passport", "รีวิวปลอม", "บัญชีปลอม", "虚假评论", "刷单", "偽レビュー"], words.make],
		"unless": array.concat(words.defend, [" test ", " tests ", " seed", " sample", " demo", " fixture", " placeholder"]),
		"message": "the job asks for something that passes for what it is not",
		"remedy": "say who is to see it and whether they know, so that an approver can agree",
	},
	{
		"rule": "base.dual_use.bulk_messages", "within": "clause", "all": [[" spam", " unsolicited", " mass email", " mass mail", " mass dm", " mass message", "สแปม", "垃圾邮件", "群发", "スパム", "спам"], [" send", " blast", " deliver", " tool", " bot ", "ส่ง", "发送", "送信", "рассыл", "отправ"]],
		"unless": words.defend,
		"message": "the job asks for messages to people who may not have asked for them",
		"remedy": "say how the receivers agreed, so that an approver can agree",
	},
]

# Techniques by the names they have in the trade. Defenders need most of them, with somebody's leave.
offensive := [
	# getting in
	" exploit for", " exploits for", " exploit a vuln", " exploit the vuln", " exploits the vuln", " exploits a vuln", " exploiting a vuln", " exploiting vuln", " exploit code", " zero day", " concept exploit", " sql injection attack", " xss payload",
	" brute force", " bruteforce", " password crack", " crack password", " cracks password", " password guess", " unauthorized access", " unauthorised access", " drive by download", " watering hole", " malicious macro", " malicious document", " malicious attachment", " malicious link", " malicious payload", " malicious code", " malicious script", " malicious extension", " trojanized", " trojanised", " supply chain attack",
	# staying in
	" backdoor", " persistence mechanism", " maintain persistence", " maintaining persistence", " achieve persistence", " establish persistence", " persistent access", " registry run key", " run keys", " startup folder", " launch daemon to hide", " bootkit", " web shell", " webshell", " logon script", " dll side load", " dll sideload", " dll hijack", " dll search order",
	# rising
	" privilege escalation", " privileges escalation", " escalate privileg", " escalating privileg", " elevate privileg", " elevated privileges without", " bypass uac", " uac bypass", " user account control", " token impersonation", " access token manipul", " sudo cach", " setuid and setgid", " kernel exploit",
	# hiding
	" process injection", " process hollowing", " inject code into", " injects code into", " injecting code into", " code injection into", " dll injection", " inject a dll", " shellcode", " rootkit", " timestomp", " clear event log", " clears event log", " clear the event log", " clearing event log", " delete event log", " disable logging", " disable event logging", " hide process", " hides process", " hidden process", " hide files from", " hide the presence", " masquerad", " obfuscated payload", " obfuscate malicious", " anti forensic", " alternate data stream", " steganograph", " sandbox evasion", " evade analysis", " debugger evasion", " indicator removal",
	# taking
	" keystroke", " keylog", " key logg", " credential dump", " dump credential", " dumps credential", " dumping credential", " dump password", " lsass", " sam database", " pass the hash", " pass the ticket", " kerberoast", " golden ticket", " credentials from browser", " credentials stored in", " passwords stored in", " saved passwords", " exfiltrat", " packet sniff", " sniff traffic", " sniff network", " network sniffing", " arp spoof", " arp poison", " dns spoof", " dns tunnel", " man in the middle", " session hijack", " screen capture in the background", " clipboard data", " clipboard contents", " audio capture", " record audio from", " microphone without", " webcam without", " capture screenshots of the user",
	# moving and commanding
	" lateral movement", " move laterally", " moving laterally", " command and control", " c2 server", " c2 framework", " c2 channel", " beaconing", " domain fronting", " domain generation algorithm", " reverse shell", " bind shell", " remote access tool", " remote access trojan", " covert channel", " botnet", " remote execution on other", " remote code execution", " port knocking to hide",
	# looking round
	" port scanner", " scan for open ports", " enumerate domain", " enumerate user accounts", " network share discovery", " reconnaissance", " gather information about the target", " gather information about target", " target organization", " target organisation", " victims network", " victim network", " victim machine", " victim host", " victims machine", " compromised system", " compromised machine", " compromised host", " target system", " vulnerability scanner",
	# breaking
	" wipe disk", " wipes disk", " disk wipe", " wipe the disk", " data destruction", " destroy data", " shadow copies", " deface", " resource hijack", " render the system unusable", " corrupt firmware", " firmware corruption", " endpoint denial", " network denial", " fork bomb",
	# exercises
	" penetration testing tool", " attack simulat", " adversary emulat", " red team tool",
	"เจาะระบบ", "แฮก", "ช่องโหว่", " puerta trasera", " porte derobee", " hintertur", "渗透", "漏洞利用", "后门", "ハッキング", "バックドア", "脆弱性を突", "взлом", "эксплойт", "бэкдор",
]

denied contains hit if some hit in text.found(refuse)

denied contains {
	"rule": "base.misuse.malware",
	"message": "the job asks for malicious software",
	"evidence": trim_space(clause),
	"remedy": remedy,
} if some clause in malware_wanted

doubtful contains hit if some hit in text.found(consider)
