/// All clients of one kind.
protocol HerdFleet {
    mutating func handle(_ fact: HerdFact, of client: Int, _ network: inout HerdNetwork)
    /// Whether the client still waits for that line.
    func wants(_ line: Int32, of client: Int) -> Bool
    /// Clients that are back for good since the last event, or have given up.
    var settledCount: Int { get }
    /// The event comes. - Parameter isLast: nothing more will happen to a client that is back for good.
    mutating func begin(isLast: Bool)
}
