/// Invented people. Their numbers are from the ranges that the authorities keep free for fiction: 020 7946 0xxx and
/// 01632 960xxx (Ofcom), 555-01xx (NANPA), 01 99 00 xx xx (ARCEP), 030 23125 xxx (Bundesnetzagentur).
struct People {
    private static let callers = [
        "Amélie Fournier", "Anton Brückner", "Beatriz Salgado", "Callum Frazer", "Chiamaka Eze", "Daniel Okonkwo",
        "Dilnoza Karimova", "Eleni Vlachou", "Farid Haddad", "Greta Lindqvist", "Hana Nováková", "Ibrahim Sesay",
        "Ingrid Solheim", "Jarosław Zięba", "Keiko Morishita", "Leilani Kahale", "Lorenzo Fabbri", "Mairead Quinlan",
        "Mateus Figueira", "Nadia Benali", "Niamh Gallagher", "Oskar Wiśniewski", "Parisa Rahimi", "Priya Raghunathan",
        "Quentin Delaunay", "Rosa Iglesias", "Sanna Mäkelä", "Tendai Moyo", "Thanh Vy Trần", "Ulrike Hagedorn",
        "Viktor Horváth", "Wanjiru Kamau", "Yael Peretz", "Zofia Adamczyk",
    ]
    private static let agents = [
        "Ada", "Bruno", "Carmen", "Dmitri", "Esther", "Finn", "Grace", "Hugo", "Imani", "Jonas", "Kiri", "Luca",
    ]

    private var rest: [String] = []

    /// Nobody calls twice before everybody has.
    mutating func caller(using random: inout some RandomNumberGenerator) -> Party {
        if self.rest.isEmpty { self.rest = Self.callers.shuffled(using: &random) }
        return Party(name: self.rest.removeLast(), number: Self.number(using: &random))
    }

    /// - Parameter busy: numbers of those who are on the phone.
    func agent(notAmong busy: Set<String>, using random: inout some RandomNumberGenerator) -> Party {
        let all = Self.agents.enumerated().map { Party(name: $0.element, number: "ext. \(201 + $0.offset)") }
        return all.filter { !busy.contains($0.number) }.randomElement(using: &random) ?? all[0]
    }

    private static func number(using random: inout some RandomNumberGenerator) -> String {
        func digits(_ count: Int) -> String {
            (0..<count).map { _ in String(Int.random(in: 0...9, using: &random)) }.joined()
        }
        return switch Int.random(in: 0..<6, using: &random) {
        case 0: "+44 20 7946 0\(digits(3))"
        case 1: "+44 1632 960\(digits(3))"
        case 2: "+1 212 555 01\(digits(2))"
        case 3: "+1 415 555 01\(digits(2))"
        case 4: "+33 1 99 00 \(digits(2)) \(digits(2))"
        default: "+49 30 23125 \(digits(3))"
        }
    }
}
