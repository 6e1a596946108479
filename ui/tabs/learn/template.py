"""The markup of the lesson's texts and buttons, on the page and in its capsule."""

SCRIPTS = ("components/saving.js", "tabs/learn/sheet.js", "tabs/learn/lesson.js")
LESSON_HTML = """
<section class="lesson" aria-label="Lesson">
  <div class="bar">
    <nav class="chapters" aria-label="Chapters"><ol data-part="list"></ol></nav>
    <div class="turn"><button type="button" class="quiet" data-do="back">Back</button>
      <button type="button" class="quiet second" data-do="next">Next</button></div>
    <p class="count" data-part="count"></p>
    <div class="tools">
      <button type="button" class="quiet" data-do="project" aria-pressed="false"
        title="Large type for a whole room; the arrow keys turn the chapters, Escape ends it">Projector</button>
      <button type="button" class="quiet" data-do="sheet" title="All questions with their answers, to print"
        >Teacher&rsquo;s sheet</button>
      <button type="button" class="quiet" data-kind="capsule"
        title="The whole lesson with recorded runs as one web page that needs neither this program nor a network"
        >Save the lesson</button>
    </div>
  </div>
  <h2 data-part="title" tabindex="-1"></h2>
  <div class="told" data-part="text"></div>
  <button type="button" class="quiet more" data-do="more" hidden></button>
  <div class="ask" data-part="ask">
    <p class="asked" data-part="question"></p>
    <div class="answers" data-part="answers" role="group" aria-label="Your guess"></div>
    <p class="why" data-part="why" role="status"></p>
  </div>
  <p class="sentence whose" data-part="whose"></p>
  <div class="saved">
    <p class="sentence" data-part="state" role="status"></p>
    <button type="button" class="quiet" data-do="quit" hidden>Stop saving</button>
    <p class="sentence problem" data-part="problem" role="alert" hidden></p>
    <ul class="files" data-part="files"></ul>
  </div>
</section>
"""
