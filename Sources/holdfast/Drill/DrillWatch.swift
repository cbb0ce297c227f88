import Foundation
import HoldfastDrills
import Synchronization

/// Shows on standard error how far the drills are: on a terminal one line per drill that changes, else a plain line for
/// each step.
final class DrillWatch: Sendable {
    private struct State {
        var words: [String: String] = [:]
        /// Lines that stand on the terminal and are written over.
        var drawn = 0
    }

    private let order: [String]
    private let isTerminal = isatty(FileHandle.standardError.fileDescriptor) == 1
    private let state = Mutex(State())

    init(drills: [Drill]) {
        self.order = drills.map(\.name)
    }

    func saw(_ progress: DrillRunner.Progress) {
        let (drill, words) = Self.words(for: progress)
        self.state.withLock { state in
            state.words[drill] = words
            if self.isTerminal {
                self.draw(&state)
            } else {
                printError("\(drill): \(words)")
            }
        }
    }

    private static func words(for progress: DrillRunner.Progress) -> (drill: String, words: String) {
        switch progress {
        case .begun(let drill): (drill, "…")
        case .now(let drill, let words): (drill, words)
        case .ended(let result):
            (result.drill, result.verdict.word + (result.reason.isEmpty ? "" : ": \(result.reason)"))
        }
    }

    /// Each line is cut to the terminal's width: one that wraps could not be written over.
    private func draw(_ state: inout State) {
        var size = winsize()
        let known = ioctl(FileHandle.standardError.fileDescriptor, UInt(TIOCGWINSZ), &size) == 0 && size.ws_col > 0
        let width = known ? Int(size.ws_col) - 1 : 79
        var text = state.drawn > 0 ? "\u{1B}[\(state.drawn)A" : ""
        let lines = self.order.compactMap { name in state.words[name].map { "\(name.padded(to: 12)) \($0)" } }
        for line in lines { text += "\u{1B}[2K\(line.prefix(width))\n" }
        state.drawn = lines.count
        FileHandle.standardError.write(Data(text.utf8))
    }

    /// The table follows.
    func end() {
        if self.isTerminal { printError("") }
    }
}
