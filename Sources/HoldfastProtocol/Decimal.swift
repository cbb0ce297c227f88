extension String {
    /// Without the blanks at both ends.
    public var trimmingBlanks: String {
        String(self.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}

extension Double {
    /// A number in decimal digits, perhaps with blanks around it. Swift's own reading takes "0x1p3", "inf" and "nan" as well.
    public init?(decimal text: String) {
        let text = text.trimmingBlanks
        guard text.utf8.allSatisfy({ "0123456789+-.eE".utf8.contains($0) }) else { return nil }
        self.init(text)
    }
}
