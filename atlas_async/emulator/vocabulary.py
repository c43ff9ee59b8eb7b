"""The words of the synthetic corpus: several languages and scripts, names, and odd subjects."""

from __future__ import annotations

from typing import Final


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


LANGUAGES: Final[dict[str, tuple[str, ...]]] = {
    "en": _words(
        "the quarter report budget meeting please review attached invoice customer delivery before "
        "Friday we agreed on contract terms and shipping costs for project north team office plan "
        "schedule travel approve request urgent status update number order payment received thanks "
        "regards question answer draft final version sales market growth risk"
    ),
    "fi": _words(
        "kokous huomenna työryhmä päätös tarjous sopimus lasku liitteenä kiitos ystävällisin "
        "terveisin hyväksyntä aikataulu yhteistyö pöytäkirja määräaika öljyläikkä"
    ),
    "de": _words(
        "die Besprechung über Änderungen Grüße Rechnung Lieferung Verträge müssen geprüft werden "
        "bitte bestätigen Straße Maßnahme Übersicht Geschäftsführung"
    ),
    "fr": _words(
        "réunion l’équipe déjà reçue pièce jointe à bientôt où être façon cœur budget prévu "
        "délai livraison facturé"
    ),
    "ru": _words("отчёт встреча договор счёт проект клиент срок подпись спасибо завтра"),
    "el": _words("συνάντηση τιμολόγιο έργο πελάτης ευχαριστώ αύριο προθεσμία"),
    "ar": _words("اجتماع تقرير عقد فاتورة مشروع شكرا غدا موعد"),
    "he": _words("פגישה דוח חוזה חשבונית פרויקט תודה מחר"),
    "zh": _words("会议 报告 合同 发票 项目 谢谢 明天 截止日期 附件 请审核"),
    "ja": _words("会議 報告書 契約 請求書 プロジェクト ありがとう 明日 締切 添付"),
    "hi": _words("बैठक रिपोर्ट अनुबंध परियोजना धन्यवाद कल"),
    "emoji": _words("🎉 ✅ 🚀 👩🏽‍💻 📎 ⚠️ 🙏 😀 🇫🇮"),
}
"""Word lists by language; ``en`` outweighs the rest in a paragraph."""

RIGHT_TO_LEFT: Final = frozenset({"ar", "he"})

FIRST_NAMES: Final = (
    "Aino",
    "Mehmet",
    "Zoë",
    "José",
    "Søren",
    "Łukasz",
    "Anna",
    "Ngọc",
    "Иван",
    "美咲",
    "Fatima",
    "Liam",
    "Chloé",
    "Jürgen",
    "Oona",
    "Priya",
)
LAST_NAMES: Final = (
    "Virtanen",
    "O'Neill",
    "Müller",
    "García",
    "Øster",
    "Nowak",
    "Smith",
    "Nguyễn",
    "Петров",
    "佐藤",
    "Haddad",
    "Brown",
    "Lefèvre",
    "Groß",
    "Mäkinen",
    "Patel",
)

FOLDER_NAMES: Final = (
    "Projects",
    "Invoices",
    "Customers",
    "Asiakkaat",
    "Rechnungen",
    "Réunions",
    "Архив проекта",
    "会議",
    "Travel & expenses",
    "R/D",
    "HR — confidential",
    "Newsletters",
    "2023",
    "2024",
    "2025",
    "مشاريع",
    "🎯 Goals",
    "Board",
)

ODD_SUBJECTS: Final = (
    "",
    " ",
    "🎉🎉 Launch day 👩🏽‍💻🇫🇮",
    "إعادة: تقرير الربع الأول \u200f(نهائي)\u200f",
    "RE: פגישה \u202bמחר\u202c FW: FW:",
    "tab\tand bell\u0007 in a subject",
    "Zalgo: h\u0335e\u0336l\u0334p\u0338 c\u0327\u0301o\u0302\u0304",
    "e\u0301 is not é",
    "Very long " + "subject " * 60,
    '"quotes" \\backslash/ <tags> & ampersand; drop table',
    "../../etc/passwd:*?|<>",
    "CON.eml",
    "\u2028line separator\u2029",
    "會議紀錄（最終版）",
)

FILE_NAMES: Final = (
    ("report.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("budget.xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("slides.pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("contract.pdf", "application/pdf"),
    ("photo.jpg", "image/jpeg"),
    ("data.csv", "text/csv"),
    ("archive.zip", "application/zip"),
    ("Äänitys 会議 🎧.m4a", "audio/mp4"),
    ("noextension", "application/octet-stream"),
    ("invite.ics", "text/calendar"),
)

CATEGORIES: Final = ("Red category", "Blue category", "Customer", "Projekti Ä", "要対応")

LOCALISED: Final[dict[str, dict[str, str]]] = {
    "fi": {
        "inbox": "Saapuneet",
        "drafts": "Luonnokset",
        "sentitems": "Lähetetyt",
        "deleteditems": "Poistetut",
        "junkemail": "Roskaposti",
        "outbox": "Lähtevät",
        "archive": "Arkisto",
        "conversationhistory": "Keskusteluhistoria",
    },
    "de": {
        "inbox": "Posteingang",
        "drafts": "Entwürfe",
        "sentitems": "Gesendete Elemente",
        "deleteditems": "Gelöschte Elemente",
        "junkemail": "Junk-E-Mail",
        "outbox": "Postausgang",
        "archive": "Archiv",
        "conversationhistory": "Aufgezeichnete Unterhaltungen",
    },
}
"""Display names of well-known folders in mailboxes of other languages."""
