/// Why a drill cannot judge.
public struct DrillError: Error, CustomStringConvertible, Equatable {
    public let description: String
    /// Something that it needs is not there, so that it was not even begun.
    public let isNotRun: Bool

    public init(_ text: String) {
        self.description = text
        self.isNotRun = false
    }

    private init(notRun text: String) {
        self.description = text
        self.isNotRun = true
    }

    static func notRun(_ text: String) -> DrillError { DrillError(notRun: text) }
}
