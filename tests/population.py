"""People of many countries, the same in every run.

Names are common ones of fifteen countries, in their own scripts where those are in use, with a long
tail of family names made of usual parts.  Nobody in particular is meant.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product

from protocol.matching.keys import Demographics

_LATIN = {
    # country: family names, parts of rarer ones, given names of men, of women
    "at": (
        "Müller Schmidt Huber Gruber Bauer Wagner Köhler Weiß Jäger Böhm Strauß Groß",
        ("Berg Stein Wald Brunn Hof Kirch Ober Unter Lind Stadl Moos Haid", "er hofer mann inger"),
        "Thomas Michael Andreas Stefan Jürgen Wolfgang Günther Josef Franz Lukas Jörg Björn",
        "Maria Anna Elisabeth Christine Käthe Monika Sabine Ursula Eva Jutta Bärbel Zoë",
    ),
    "us": (
        "Smith Johnson Williams Brown Jones Miller Davis O'Brien O'Connor McDonald Taylor Moore",
        ("Ash Black Wood Hart North West Green Whit Lang Kings", "ton ley field worth ford man"),
        "James Robert John Michael William David Richard Joseph Thomas Charles Edward Anthony",
        "Mary Patricia Jennifer Elizabeth Barbara Susan Margaret Katherine Deborah Rebecca Ann",
    ),
    "fr": (
        "Martin Bernard Dubois Durand Lefèvre Moreau Girard François Mercier Besançon Noël Hervé",
        ("Beau Mont Roche Val Font Grand Bel Champ Clair Haute", "mont ville fort eau court champ"),
        "Jean Pierre Michel André Philippe René Gérard Étienne Benoît Jérôme Loïc Hugo",
        "Marie Françoise Hélène Sylvie Cécile Amélie Zoé Élodie Chloé Nathalie Agnès Brigitte",
    ),
    "es": (
        "García López Martínez Sánchez Pérez Gómez Díaz Muñoz Álvarez Jiménez Núñez Ibáñez",
        ("Mont Val Cas Agu Fuent Rold Ces Bar Sal Cort", "alba ero ana illo edo ares"),
        "José Antonio Manuel Francisco Juan Jesús Ángel Luis Javier Andrés Íñigo Raúl",
        "María Carmen Ana Isabel Dolores Pilar Teresa Ángeles Lucía Inés Concepción Begoña",
    ),
    "br": (
        "Silva Santos Oliveira Souza Pereira Lima Carvalho Araújo Ribeiro Gonçalves Simões Falcão",
        ("Cam Pin Fer Mat Mor Cast Bar Alm Tav Per", "eira oso argo ares ado inho"),
        "João Antônio Francisco Carlos Paulo Pedro Lucas Luiz Marcos Sebastião Estevão Caio",
        "Maria Ana Francisca Antônia Adriana Juliana Márcia Fernanda Patrícia Conceição Inês Íris",
    ),
    "it": (
        "Rossi Russo Ferrari Esposito Bianchi Romano Colombo Ricci Marino Greco Gallo Nicolò",
        ("Bell Mont Carr Fior Vent Marc Cast Pell Gent Ros", "ini etti ano aro one elli"),
        "Giuseppe Giovanni Antonio Mario Luigi Francesco Angelo Vincenzo Pietro Nicolò Carlo Enzo",
        "Maria Anna Giuseppina Rosa Angela Giovanna Teresa Lucia Carmela Caterina Francesca Noemi",
    ),
    "nl": (
        "Jansen Visser Smit Meijer Mulder Bakker Dijkstra Hoekstra Kuijpers Brouwer Schouten Bos",
        ("Veld Hout Water Zand Kool Steen Rijn Oost Haver Groen", "huis kamp berg man stra hof"),
        "Johannes Jan Cornelis Hendrik Pieter Willem Gerrit Jeroen Maarten Sjoerd Thijs Bram",
        "Johanna Anna Cornelia Wilhelmina Elisabeth Margaretha Saskia Femke Marijke Sanne Anouk Bo",
    ),
    "pl": (
        "Nowak Kowalski Wiśniewski Wójcik Kamiński Lewandowski Zieliński Dąbrowski Wróbel Żak",
        ("Jabł Brzoz Lip Dęb Sos Wierz Mal Krup Czer Gór", "oński icki owski ewicz czyk ak"),
        "Jan Andrzej Piotr Krzysztof Stanisław Tomasz Paweł Józef Michał Łukasz Wojciech Grzegorz",
        "Anna Maria Katarzyna Małgorzata Agnieszka Barbara Ewa Krystyna Elżbieta Zofia Żaneta",
    ),
    "tr": (
        "Yılmaz Kaya Demir Şahin Çelik Yıldız Öztürk Aydın Özdemir Arslan Doğan Kılıç",
        ("Kara Ak Gök Taş Dem Alt Bal Kor Yal Tun", "taş oğlu can kaya demir soy"),
        "Mehmet Mustafa Ahmet Ali Hüseyin Hasan İbrahim Ömer Yusuf Murat Çağrı Uğur",
        "Fatma Ayşe Emine Hatice Zeynep Elif Meryem Şerife Sultan Gülşen Özlem Çiğdem",
    ),
    "vn": (
        "Nguyễn Trần Lê Phạm Hoàng Huỳnh Phan Vũ Võ Đặng Bùi Đỗ",
        ("Ngô Dương Lý Trịnh Đinh Lâm Mai Tô Cao Chu", "  "),
        "Văn Minh Hùng Dũng Quang Tuấn Hải Long Sơn Đức Thành Phúc",
        "Thị Hoa Lan Hương Linh Mai Ngọc Phương Thảo Trang Yến Huệ",
    ),
    "in": (
        "Sharma Singh Kumar Patel Gupta Reddy Iyer Das Khan Chatterjee Mukherjee Joshi",
        ("Bhatt Chand Ram Krish Venkat Nara Sub Raj Gopal Prak", "acharya ani an aswamy esh wal"),
        "Rahul Amit Sanjay Rajesh Vijay Anil Suresh Ravi Arjun Deepak Ashok Manoj",
        "Priya Anjali Sunita Kavita Lakshmi Deepa Meena Geeta Radha Pooja Shanti Usha",
    ),
}
_TRANSLITERATED = {
    # country: family names, given names of men, of women, each in every form in which it is written
    "ru": (
        """Иванов/Ivanov Смирнов/Smirnov Кузнецов/Kuznetsov Попов/Popov Соколов/Sokolov Орлов/Orlov
        Михайлов/Mikhailov Фёдоров/Fedorov Чайковский/Tchaikovsky Захаров/Zakharov""",
        "Александр/Aleksandr Дмитрий/Dmitry Сергей/Sergey Андрей/Andrei Юрий/Yuri Михаил/Mikhail",
        "Елена/Jelena Ольга/Olga Татьяна/Tatiana Наталья/Natalia Светлана/Svetlana Юлия/Julia",
    ),
    "eg": (
        """Abdulrahman/Abdel-Rahman Gaddafi/Qadhafi Hussein/Husain Mansour/Mansur Saleh/Salih
        Khoury/Khouri Haddad/Hadad Osman/Othman Shareef/Sharif Yousef/Youssef""",
        "Mohammed/Muhamad Ahmed/Ahmad Youssef/Yusuf Khaled/Khalid Omar/Omer Hassan/Hasan",
        "Fatima/Fatema Aisha/Aysha Mariam/Maryam Zainab/Zeinab Layla/Leila Khadija/Khadijah",
    ),
    "jp": (
        """Yamada/山田/やまだ Suzuki/鈴木/すずき Satou/佐藤/さとう Takahashi/高橋/たかはし
        Tanaka/田中/たなか Watanabe/渡辺/わたなべ Itou/伊藤/いとう Nakamura/中村/なかむら
        Kobayashi/小林/こばやし Katou/加藤/かとう Yoshida/吉田/よしだ Sasaki/佐々木/ささき""",
        """Tarou/太郎/たろう Hiroshi/浩/ひろし Kenji/健二/けんじ Makoto/誠/まこと Takashi/隆/たかし
        Yuuta/勇太/ゆうた Daisuke/大輔/だいすけ Akira/明/あきら""",
        """Hanako/花子/はなこ Yuuko/優子/ゆうこ Keiko/恵子/けいこ Sakura/桜/さくら
        Kyouko/京子/きょうこ Yumi/由美/ゆみ Ai/愛/あい Megumi/恵/めぐみ""",
    ),
    "cn": (
        "Wang/王 Li/李 Zhang/张 Liu/刘 Chen/陈 Yang/杨 Huang/黄 Zhao/赵 Wu/吴 Zhou/周 Xu/徐 Sun/孙",
        "Wei/伟 Qiang/强 Lei/磊 Jun/军 XiaoDong/晓东 ZhiQiang/志强 JianGuo/建国 Yong/勇",
        "Fang/芳 Na/娜 Min/敏 Jing/静 XiaoLi/晓丽 XiuYing/秀英 LiHua/丽华 Yan/燕",
    ),
}
COUNTRIES = (*_LATIN, *_TRANSLITERATED)
FIRST_DAY, DAYS = date(1935, 1, 1), 88 * 365


@dataclass(frozen=True)
class Somebody:
    """A person: each name in the forms in which it is written, Latin first."""

    country: str
    sex: str
    family: tuple
    givens: tuple
    birth_date: str
    number: str

    def recorded(self):
        """Return how the facility of origin has written it."""
        return self.written()

    def written(self, **changed):
        """Return a description; what is not in `changed` is as recorded."""
        fields = {"names": (self.name(),), "birth_date": self.birth_date, "sex": self.sex}
        return Demographics(**(fields | changed))

    def name(self, family=None, givens=None):
        """Return a PN: the native and phonetic groups where the country has them."""
        family, givens = family or self.family, self.givens if givens is None else givens
        groups = []
        for group in range(len(family)):
            given = " ".join(each[group] for each in givens if group < len(each))
            groups.append(f"{family[group]}^{given}".rstrip("^"))
        if self.country in ("ru", "eg"):
            return groups[0]
        return "=".join(groups)


def _tables():
    tables = {}
    for country, (common, (stems, ends), men, women) in _LATIN.items():
        rare = " ".join("".join(pair) for pair in product(stems.split(), ends.split() or [""]))
        tables[country] = tuple(
            [(name,) for name in names.split()] for names in (common, rare, men, women)
        )
    for country, texts in _TRANSLITERATED.items():
        families, men, women = ([tuple(each.split("/")) for each in text.split()] for text in texts)
        tables[country] = (families, families, men, women)
    return tables


TABLES = _tables()
_ZIPF = {}


def _pick(rng, names):
    """Return a name; the n-th is borne by one n-th of those who bear the first."""
    weights = _ZIPF.setdefault(len(names), _sums(len(names)))
    return rng.choices(names, cum_weights=weights)[0]


def _sums(count):
    total, sums = 0.0, []
    for place in range(1, count + 1):
        total += 1 / place
        sums.append(total)
    return sums


def people(count, seed=1):
    """Yield `count` people, the same for the same seed."""
    rng = random.Random(seed)
    for number in range(count):
        country = rng.choice(COUNTRIES)
        common, rare, men, women = TABLES[country]
        sex = rng.choice("MF")
        family = _family(rng, country, common, rare)
        pool = men if sex == "M" else women
        givens = dict.fromkeys(_pick(rng, pool) for _ in range(rng.choice((1, 1, 2))))
        day = FIRST_DAY + timedelta(days=rng.randrange(DAYS))
        yield Somebody(
            country, sex, family, tuple(givens), f"{day:%Y%m%d}", f"{10_000_019 + 7 * number}"
        )


def _family(rng, country, common, rare):
    family = _pick(rng, common) if rng.random() < 0.4 else rng.choice(rare)
    if country in ("es", "br") and rng.random() < 0.7:
        other = rng.choice(rare)
        join = " de la " if country == "es" and rng.random() < 0.2 else " "
        return (f"{family[0]}{join}{other[0]}",)
    if country == "nl" and rng.random() < 0.4:
        return (f"{rng.choice(('van', 'van der', 'de', 'van den'))} {family[0]}",)
    return family
